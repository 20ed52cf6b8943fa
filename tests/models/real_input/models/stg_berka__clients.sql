with

records as (
    {{ json_records(
        source('bronze', 'berka_clients'),
        feed='berka_clients',
        columns={'client_id': 'bigint', 'birth_number': 'string', 'district_id': 'int'},
        keys=['client_id'],
    ) }}
)

-- The birth number is YYMMDD; 50 is added to the month for women.
select
    client_id,
    district_id,
    case when substr(birth_number, 3, 1) >= '5' then 'F' else 'M' end as gender,
    cast(
        concat(
            '19', substr(birth_number, 1, 2), '-',
            case substr(birth_number, 3, 1) when '5' then '0' when '6' then '1' else substr(birth_number, 3, 1) end,
            substr(birth_number, 4, 1), '-', substr(birth_number, 5, 2)
        ) as date
    ) as birth_date,
    {{ change_columns() }}
from records
