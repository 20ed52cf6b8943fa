with

records as (
    {{ json_records(
        source('bronze', 'berka_accounts'),
        feed='berka_accounts',
        columns={'account_id': 'bigint', 'district_id': 'int', 'frequency': 'string', 'date': 'string'},
        keys=['account_id'],
    ) }}
)

select
    account_id,
    district_id,
    case frequency
        when 'POPLATEK MESICNE' then 'monthly'
        when 'POPLATEK TYDNE' then 'weekly'
        when 'POPLATEK PO OBRATU' then 'after each transaction'
    end as statement_frequency,
    cast(
        concat('19', substr(date, 1, 2), '-', substr(date, 3, 2), '-', substr(date, 5, 2)) as date
    ) as opened_on,
    {{ change_columns() }}
from records
