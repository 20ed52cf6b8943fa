with

records as (
    {{ json_records(
        source('bronze', 'checking_acct'),
        feed='checking_acct',
        columns={
            'customer_id': 'bigint',
            'scheduled_payment': 'int',
            'txn_amount': 'decimal(18,2)',
            'debit_or_credit': 'int',
            'updt_ts': 'timestamp',
            'initial_balance': 'decimal(18,2)',
        },
        keys=['customer_id'],
        changed_at='updt_ts',
    ) }}
),

renamed as (
    select
        *,
        scheduled_payment = 1 as is_scheduled_payment,
        txn_amount as amount_usd,
        case debit_or_credit when 0 then 'debit' when 1 then 'credit' end as direction,
        initial_balance as initial_balance_usd,
        updt_ts as transacted_at
    from records
)

select
    customer_id,
    is_scheduled_payment,
    amount_usd,
    direction,
    initial_balance_usd,
    transacted_at,
    {{ change_columns() }}
from renamed
