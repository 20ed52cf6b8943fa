with

records as (
    {{ json_records(
        source('bronze', 'vendor_dining'),
        feed='vendor_dining',
        columns={
            'visit_id': 'string',
            'customer_id': 'bigint',
            'cuisine': 'string',
            'party_size': 'int',
            'bill': 'decimal(18,2)',
            'visited_at': 'timestamp',
        },
        keys=['visit_id'],
        changed_at='visited_at',
    ) }}
)

select
    visit_id as event_id,
    customer_id,
    'dining' as vendor,
    cuisine as vendor_category,
    party_size as quantity,
    bill as spend_usd,
    visited_at as occurred_at,
    {{ change_columns() }}
from records
