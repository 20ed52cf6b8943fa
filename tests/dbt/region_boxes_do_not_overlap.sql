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
    other_boxes.region as other_region
from boxes
inner join boxes as other_boxes
    on
        boxes.box_number < other_boxes.box_number
        and boxes.south_latitude < other_boxes.north_latitude
        and boxes.north_latitude > other_boxes.south_latitude
        and boxes.west_longitude < other_boxes.east_longitude
        and boxes.east_longitude > other_boxes.west_longitude
