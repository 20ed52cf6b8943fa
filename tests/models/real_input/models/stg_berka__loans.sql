with

records as (
    {{ json_records(
        source('bronze', 'berka_loans'),
        feed='berka_loans',
        columns={
            'loan_id': 'bigint',
            'account_id': 'bigint',
            'amount': 'decimal(18,2)',
            'payments': 'decimal(18,2)',
            'duration': 'int',
            'status': 'string',
        },
        keys=['loan_id'],
    ) }}
)

select * from records
