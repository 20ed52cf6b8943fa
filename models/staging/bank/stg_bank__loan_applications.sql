with

changes as (
    {{ debezium_changes(
        source('bronze', 'loan_applications'),
        feed='loan_applications',
        columns={
            'application_id': 'bigint',
            'customer_id': 'bigint',
            'product': 'string',
            'amount': 'decimal(18,2)',
            'term_months': 'int',
            'status': 'string',
            'submitted_at': 'timestamp',
            'updated_at': 'timestamp',
        },
        keys=['application_id'],
    ) }}
),

renamed as (
    select
        *,
        amount as amount_usd
    from changes
)

select
    application_id,
    customer_id,
    product,
    amount_usd,
    term_months,
    status,
    submitted_at,
    updated_at,
    {{ change_columns() }}
from renamed
