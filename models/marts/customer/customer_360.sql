{{ recomputed_by_customer(keys=['customer_id']) }}

with

customers as (
    select * from {{ ref('customers') }}
    where {{ of_changed_customers() }}
),

accounts as (
    select * from {{ ref('accounts') }}
    where {{ of_changed_customers() }}
),

preferences as (
    select * from {{ ref('customer_preferences') }}
    where {{ of_changed_customers() }}
),

engagement as (
    select * from {{ ref('customer_engagement') }}
    where {{ of_changed_customers() }}
),

sessions as (
    select * from {{ ref('customer_sessions') }}
    where {{ of_changed_customers() }}
),

lifetime as (
    select * from {{ ref('customer_lifetime') }}
    where {{ of_changed_customers() }}
),

segments as (
    select * from {{ ref('customer_segments') }}
    where {{ of_changed_customers() }}
),

cash_back_monthly as (
    select * from {{ ref('cash_back_monthly') }}
    where {{ of_changed_customers() }}
),

break_even as (
    select * from {{ ref('cash_back_break_even') }}
    where
        is_newest_programme
        and {{ of_changed_customers() }}
),

offers as (
    select * from {{ ref('personalized_offers') }}
    where {{ of_changed_customers() }}
),

loans as (
    select * from {{ ref('personalized_loans') }}
    where {{ of_changed_customers() }}
),

balances as (
    select
        customer_id,
        cast(count(*) as int) as accounts,
        cast(sum(case when account_type = 'checking' then balance_usd else 0 end) as decimal(18, 2))
            as checking_balance_usd,
        cast(sum(case when account_type = 'savings' then balance_usd else 0 end) as decimal(18, 2))
            as savings_balance_usd,
        cast(sum(case when account_type = 'card' then balance_usd else 0 end) as decimal(18, 2))
            as card_balance_usd,
        cast(sum(coalesce(balance_usd, 0)) as decimal(18, 2)) as total_balance_usd
    from accounts
    group by customer_id
),

top_preferences as (
    select
        customer_id,
        max(case when preference_rank = 1 then category end) as top_preference,
        max(case when preference_rank = 2 then category end) as second_preference,
        max(case when preference_rank = 3 then category end) as third_preference
    from preferences
    where preference_rank <= 3
    group by customer_id
),

session_totals as (
    select
        customer_id,
        cast(count(*) as int) as sessions,
        max(ended_at) as last_session_at
    from sessions
    group by customer_id
),

-- A month that is not over has its whole cost, but not its whole spend: it does not count here.
last_months as (
    select
        customer_id,
        max(month) as month
    from cash_back_monthly
    where is_over
    group by customer_id
),

newest_months as (
    select
        cash_back_monthly.customer_id,
        cash_back_monthly.month,
        cash_back_monthly.net_usd,
        cash_back_monthly.is_loss
    from cash_back_monthly
    inner join last_months
        on
            cash_back_monthly.customer_id = last_months.customer_id
            and cash_back_monthly.month = last_months.month
),

offer_totals as (
    select
        customer_id,
        cast(count(*) as int) as offers,
        max(case when offer_rank = 1 then title end) as best_offer,
        max(case when offer_rank = 1 then reason end) as best_offer_reason
    from offers
    group by customer_id
),

loan_totals as (
    select
        customer_id,
        cast(count(*) as int) as loan_offers,
        max(case when offer_rank = 1 then title end) as best_loan_offer,
        cast(max(case when offer_rank = 1 then amount_usd end) as decimal(18, 2))
            as best_loan_amount_usd
    from loans
    group by customer_id
),

final as (
    select
        customers.customer_id,
        customers.full_name,
        customers.email,
        customers.birth_date,
        customers.region,
        customers.status,
        coalesce(balances.accounts, 0) as accounts,
        coalesce(balances.checking_balance_usd, cast(0 as decimal(18, 2))) as checking_balance_usd,
        coalesce(balances.savings_balance_usd, cast(0 as decimal(18, 2))) as savings_balance_usd,
        coalesce(balances.card_balance_usd, cast(0 as decimal(18, 2))) as card_balance_usd,
        coalesce(balances.total_balance_usd, cast(0 as decimal(18, 2))) as total_balance_usd,
        segments.segment,
        engagement.engagement_level,
        engagement.engagement_trend,
        coalesce(session_totals.sessions, 0) as sessions,
        top_preferences.top_preference,
        top_preferences.second_preference,
        top_preferences.third_preference,
        coalesce(offer_totals.offers, 0) as offers,
        offer_totals.best_offer,
        offer_totals.best_offer_reason,
        coalesce(loan_totals.loan_offers, 0) as loan_offers,
        loan_totals.best_loan_offer,
        loan_totals.best_loan_amount_usd,
        lifetime.lifetime_days,
        lifetime.net_to_date_usd,
        lifetime.net_per_month_usd,
        customers.cash_back_programme,
        newest_months.month as cash_back_month,
        newest_months.net_usd as cash_back_net_usd,
        newest_months.is_loss as is_cash_back_loss,
        break_even.break_even_status,
        customers.created_at as customer_since_at,
        segments.last_purchase_at,
        session_totals.last_session_at
    from customers
    left join balances
        on customers.customer_id = balances.customer_id
    left join segments
        on customers.customer_id = segments.customer_id
    left join engagement
        on customers.customer_id = engagement.customer_id
    left join session_totals
        on customers.customer_id = session_totals.customer_id
    left join top_preferences
        on customers.customer_id = top_preferences.customer_id
    left join lifetime
        on customers.customer_id = lifetime.customer_id
    left join newest_months
        on customers.customer_id = newest_months.customer_id
    left join break_even
        on customers.customer_id = break_even.customer_id
    left join offer_totals
        on customers.customer_id = offer_totals.customer_id
    left join loan_totals
        on customers.customer_id = loan_totals.customer_id
)

select * from final
