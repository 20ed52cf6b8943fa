-- Fails where the categories of a customer and programme do not add up to what break-even is
-- computed from, to the cent.
with

mix as (
    select
        customer_id,
        programme,
        sum(spend_usd) as spend_usd,
        sum(margin_usd) as margin_usd
    from {{ ref('cash_back_category_mix') }}
    group by customer_id, programme
),

months as (
    select
        customer_id,
        programme,
        count(*) as months,
        sum(spend_usd) as spend_usd,
        sum(interchange_usd - cash_back_usd) as margin_usd
    from {{ ref('cash_back_monthly') }}
    where is_over and programme is not null
    group by customer_id, programme
),

differences as (
    select
        months.customer_id,
        months.programme
    from months
    left join mix
        on months.customer_id = mix.customer_id and months.programme = mix.programme
    left join {{ ref('cash_back_break_even') }} as break_even
        on
            months.customer_id = break_even.customer_id
            and months.programme = break_even.programme
    where
        months.spend_usd <> coalesce(mix.spend_usd, 0)
        or months.margin_usd <> coalesce(mix.margin_usd, 0)
        or break_even.months is null
        or break_even.months <> months.months
)

select * from differences
