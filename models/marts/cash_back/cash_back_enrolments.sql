{{ recomputed_by_customer(keys=['customer_id', 'enrolment_number']) }}

with

versions as (
    select * from {{ ref('customers_history') }}
    where {{ of_changed_customers() }}
),

-- Who has left, or has no programme, is not enrolled. A version that another one replaced at the
-- same moment never counted.
enrolled as (
    select
        customer_id,
        cash_back_programme as programme,
        valid_from,
        valid_from_at,
        valid_to_at
    from versions
    where
        cash_back_programme is not null
        and status = 'active'
        and (valid_to_at is null or valid_to_at > valid_from_at)
),

followed as (
    select
        *,
        lag(programme) over (
            partition by customer_id order by valid_from_at, valid_from
        ) as earlier_programme,
        lag(valid_to_at) over (
            partition by customer_id order by valid_from_at, valid_from
        ) as earlier_valid_to_at
    from enrolled
),

compared as (
    select
        *,
        case
            when earlier_programme = programme and earlier_valid_to_at = valid_from_at then 0
            else 1
        end as starts_enrolment
    from followed
),

numbered as (
    select
        *,
        sum(starts_enrolment) over (
            partition by customer_id order by valid_from_at, valid_from
            rows between unbounded preceding and current row
        ) as enrolment_number
    from compared
),

enrolments as (
    select
        customer_id,
        enrolment_number,
        max(programme) as programme,
        min(valid_from_at) as enrolled_at,
        case when count(*) = count(valid_to_at) then max(valid_to_at) end as left_at
    from numbered
    group by customer_id, enrolment_number
),

-- A transaction counts for the enrolment at its time; before the first one, for the first; in a gap
-- or after the last, for the one before.
final as (
    select
        customer_id,
        cast(enrolment_number as int) as enrolment_number,
        programme,
        enrolled_at,
        left_at,
        case
            when enrolment_number = 1 then timestamp '1900-01-01 00:00:00'
            else enrolled_at
        end as counts_from_at,
        coalesce(
            lead(enrolled_at) over (partition by customer_id order by enrolment_number),
            timestamp '9999-01-01 00:00:00'
        ) as counts_until_at
    from enrolments
)

select * from final
