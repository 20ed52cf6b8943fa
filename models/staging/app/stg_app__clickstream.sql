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
),

regions as (
    select * from {{ ref('region_boxes') }}
)

-- The place is made coarse here, so that no table has to hold it as it was.
select
    records.event_id,
    records.customer_id,
    records.page,
    records.action,
    records.device,
    case
        when records.latitude is not null and records.longitude is not null
            then coalesce(regions.region, 'elsewhere')
    end as region,
    records.latitude,
    records.longitude,
    records.occurred_at,
    {{ change_columns() }}
from records
left join regions
    on
        records.latitude >= regions.south_latitude
        and records.latitude < regions.north_latitude
        and records.longitude >= regions.west_longitude
        and records.longitude < regions.east_longitude
