{{ recomputed_by_customer(keys=['customer_id', 'measure', 'subject']) }}

with

customers as (
    select * from {{ ref('customers') }}
    where {{ of_changed_customers() }}
),

patterns as (
    select * from {{ ref('customer_patterns') }}
    where {{ of_changed_customers() }}
),

preferences as (
    select * from {{ ref('customer_preferences') }}
    where {{ of_changed_customers() }}
),

pattern_changes as (
    select * from {{ ref('preference_changes') }}
    where {{ of_changed_customers() }}
),

accounts as (
    select * from {{ ref('accounts') }}
    where {{ of_changed_customers() }}
),

checking_transactions as (
    select * from {{ ref('checking_transactions') }}
    where {{ of_changed_customers() }}
),

loan_applications as (
    select * from {{ ref('loan_applications') }}
    where {{ of_changed_customers() }}
),

-- Only what a rule or a value asks for is measured: an offer that needs more asks for it in a seed.
asked_for as (
    select
        measure,
        subject
    from {{ ref('offer_rules') }}
    union distinct
    select
        value_measure as measure,
        value_subject as subject
    from {{ ref('offer_catalogue') }}
    where value_measure is not null
    union distinct
    select
        instalment_measure as measure,
        instalment_subject as subject
    from {{ ref('loan_catalogue') }}
),

customer_values as (
    select
        customers.customer_id,
        asked_for.measure,
        asked_for.subject,
        case asked_for.measure
            when 'is_active_customer' then case when customers.status = 'active' then 1 else 0 end
            when 'tenure_days'
                then {{ days_between('cast(customers.created_at as date)', as_of_date()) }}
        end as value,
        customers.created_at as measured_at
    from customers
    inner join asked_for
        on asked_for.measure in ('is_active_customer', 'tenure_days')
),

pattern_values as (
    select
        patterns.customer_id,
        asked_for.measure,
        asked_for.subject,
        case
            when asked_for.measure = 'online_txns' then patterns.number_of_online_txns
            when asked_for.measure = 'has_bought_home'
                then case when patterns.home_mortgage_purchased_at is not null then 1 else 0 end
            when asked_for.subject = 'concerts' then patterns.number_of_concert_tickets
            when asked_for.subject = 'comedy' then patterns.number_of_comedy_shows
            when asked_for.subject = 'sport' then patterns.number_of_sport_events
        end as value,
        case
            when asked_for.measure = 'has_bought_home'
                then coalesce(patterns.home_mortgage_purchased_at, patterns.created_at)
            else patterns.updated_at
        end as measured_at
    from patterns
    inner join asked_for
        on asked_for.measure in ('online_txns', 'has_bought_home', 'pattern_count')
),

recent_changes as (
    select
        customer_id,
        category,
        value_before,
        moved_by,
        changed_at,
        row_number() over (partition by customer_id, category order by changed_at)
            as number_of_change
    from pattern_changes
    where
        is_in_current_pattern
        and {{ days_between('cast(changed_at as date)', as_of_date()) }} between 0 and 29
),

growth_values as (
    select
        customer_id,
        category as subject,
        sum(moved_by) as value,
        max(case when number_of_change = 1 then value_before end) as value_before,
        min(changed_at) as since_at,
        max(changed_at) as measured_at
    from recent_changes
    group by customer_id, category
),

preference_values as (
    select
        preferences.customer_id,
        asked_for.measure,
        asked_for.subject,
        case asked_for.measure
            when 'events_30d' then cast(preferences.events_30d as decimal(18, 2))
            when 'events_90d' then cast(preferences.events_90d as decimal(18, 2))
            when 'page_views_30d' then cast(preferences.page_views_30d as decimal(18, 2))
            when 'spend_30d_usd' then preferences.spend_30d_usd
            when 'spend_90d_usd' then preferences.spend_90d_usd
            when 'spend_share_pct' then preferences.spend_share_pct
            when 'pace_pct'
                then {{ scale_amount(
                    '300.00', 'preferences.events_30d', 'preferences.events_90d'
                ) }}
        end as value,
        preferences.last_seen_at as measured_at
    from preferences
    inner join asked_for
        on preferences.category = asked_for.subject
),

balance_values as (
    select
        customer_id,
        account_type as subject,
        sum(balance_usd) as value,
        max(updated_at) as measured_at
    from accounts
    group by customer_id, account_type
    union all
    select
        customer_id,
        'deposits' as subject,
        sum(balance_usd) as value,
        max(updated_at) as measured_at
    from accounts
    where account_type in ('checking', 'savings')
    group by customer_id
),

flows as (
    select
        customer_id,
        cast(sum(case when direction = 'credit' then amount_usd else 0 end) as decimal(18, 2))
            as inflow_usd,
        cast(sum(case when direction = 'debit' then amount_usd else 0 end) as decimal(18, 2))
            as outflow_usd,
        max(transacted_at) as measured_at
    from checking_transactions
    where {{ days_between('cast(transacted_at as date)', as_of_date()) }} between 0 and 89
    group by customer_id
),

flow_values as (
    select
        flows.customer_id,
        asked_for.measure,
        case asked_for.measure
            when 'inflow_monthly_usd' then {{ scale_amount('flows.inflow_usd', '1', '3') }}
            when 'outflow_monthly_usd' then {{ scale_amount('flows.outflow_usd', '1', '3') }}
            when 'net_flow_monthly_usd'
                then {{ scale_amount('(flows.inflow_usd - flows.outflow_usd)', '1', '3') }}
        end as value,
        flows.measured_at
    from flows
    inner join asked_for
        on asked_for.subject = 'checking'
),

application_values as (
    select
        loan_applications.customer_id,
        asked_for.measure,
        asked_for.subject,
        sum(
            case
                when asked_for.measure = 'open_applications'
                    then case
                        when loan_applications.status in ('submitted', 'approved') then 1 else 0
                    end
                when asked_for.measure = 'funded_loans'
                    then case when loan_applications.status = 'funded' then 1 else 0 end
                when
                    loan_applications.status = 'declined'
                    and {{ days_between(
                        'cast(loan_applications.updated_at as date)', as_of_date()
                    ) }} between 0 and 179
                    then 1
                else 0
            end
        ) as value,
        max(loan_applications.updated_at) as measured_at
    from loan_applications
    inner join asked_for
        on
            loan_applications.product = asked_for.subject
            and asked_for.measure in ('open_applications', 'funded_loans', 'declined_180d')
    group by loan_applications.customer_id, asked_for.measure, asked_for.subject
),

measured as (
    {%- for values, measure, subject in [
        ('customer_values', 'measure', 'subject'),
        ('pattern_values', 'measure', 'subject'),
        ('preference_values', 'measure', 'subject'),
        ('application_values', 'measure', 'subject'),
        ('growth_values', "'pattern_growth_30d'", 'subject'),
        ('balance_values', "'balance_usd'", 'subject'),
        ('flow_values', 'measure', "'checking'"),
    ] %}
        {%- set has_before = values == 'growth_values' %}
        {{ 'union all' if not loop.first }}
        select
            customer_id,
            {{ measure }}{{ ' as measure' if measure != 'measure' }},
            {{ subject }}{{ ' as subject' if subject != 'subject' }},
            cast(value as decimal(18, 2)) as value,
            cast({{ 'value_before' if has_before else 'null' }} as decimal(18, 2)) as value_before,
            {{ 'since_at' if has_before else 'measured_at as since_at' }},
            measured_at
        from {{ values }}
    {%- endfor %}
),

final as (
    select
        measured.customer_id,
        measured.measure,
        measured.subject,
        measured.value,
        measured.value_before,
        cast(measured.value_before + measured.value as decimal(18, 2)) as value_after,
        measured.since_at,
        measured.measured_at
    from measured
    inner join asked_for
        on measured.measure = asked_for.measure and measured.subject = asked_for.subject
    where measured.value is not null
)

select * from final
