with

records as (
    {{ json_records(
        source('bronze', 'clickstream'),
        feed='clickstream',
        columns={
            'event_id': 'string',
            'customer_id': 'bigint',
            'page': 'string',
            'action': 'string',
            'device': 'string',
            'latitude': 'double',
            'longitude': 'double',
            'occurred_at': 'timestamp',
        },
        keys=['event_id'],
        changed_at='occurred_at',
    ) }}
)

select
    event_id,
    customer_id,
    page,
    action,
    device,
    latitude,
    longitude,
    occurred_at,
    {{ change_columns() }}
from records
