with

changes as (
    {{ debezium_changes(
        source('bronze', 'people'),
        feed='people',
        columns={'customer_id': 'bigint', 'region': 'string'},
        keys=['customer_id'],
    ) }}
)

select * from changes
