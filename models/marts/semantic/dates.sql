with

days as (
    {{ date_series('2010-01-01', '2049-12-31') }}
),

final as (
    select
        date_day,
        cast(date_trunc('week', date_day) as date) as week_start_date,
        cast(date_trunc('month', date_day) as date) as month_start_date
    from days
)

select * from final
