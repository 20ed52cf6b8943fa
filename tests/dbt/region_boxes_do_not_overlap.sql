-- A place in two boxes would make two rows of one event.
with

boxes as (
    select
        *,
        row_number() over (
            order by south_latitude, north_latitude, west_longitude, east_longitude, region
        ) as box_number
    from {{ ref('region_boxes') }}
)

select
    boxes.region,
    others.region as other_region
from boxes
inner join boxes as others
    on
        boxes.box_number < others.box_number
        and boxes.south_latitude < others.north_latitude
        and boxes.north_latitude > others.south_latitude
        and boxes.west_longitude < others.east_longitude
        and boxes.east_longitude > others.west_longitude
