{#
    The states of a bitemporal relation at each moment at which they may be the newest: a SELECT with
    the columns of `states`, `feature_at`, and as `seen_from` when the state could be seen there.
    Needs a CTE `moments`.

    A state is left out from the first moment on that knows a newer one no later than it, so that a
    moment sees few rows, however long the history is, landed day by day or at once.

    states   name of a CTE with the key columns, `changed_at`, `known_from`, `_sequence`
    keys     list of the columns that identify what has the state
    until    column since when the state is known not to have been; NULL while it stands
#}
{% macro states_at_moments(states, keys, until=none) -%}
    {%- set newer = 'partition by ' ~ keys | join(', ') ~ ' order by _sequence desc, known_from desc' -%}
    {%- set stands = until ~ ' is null' if until else 'true' -%}
    select
        placed.*,
        moments.feature_at,
        greatest(placed.known_from, moments.feature_at) as seen_from
    from (
        select
            lasting.*,
            {{ month_series(
                'cast(first_feature_at as date)', 'cast(last_feature_at as date)'
            ) }} as feature_month
        from (
            select
                ranged.*,
                least(
                    replaced_at - interval 1 month,
                    case when newer_known_from <= known_from then newer_feature_at end
                    - interval 1 month,
                    cast({{ as_of_month() }} as timestamp)
                ) as last_feature_at
            from (
                select
                    seen.*,
                    min(settled_at) over (
                        {{ newer }} rows between unbounded preceding and 1 preceding
                    ) as replaced_at,
                    lag(known_for_good_from) over ({{ newer }}) as newer_known_from,
                    lag(first_feature_at) over ({{ newer }}) as newer_feature_at
                from (
                    select
                        *,
                        {{ first_moment_after('changed_at') }} as first_feature_at,
                        case when {{ stands }} then known_from end as known_for_good_from,
                        case
                            when {{ stands }}
                                then greatest(
                                    {{ first_moment_after('changed_at') }},
                                    {{ first_moment_from('known_from') }}
                                )
                        end as settled_at
                    from {{ states }}
                ) as seen
            ) as ranged
        ) as lasting
        where first_feature_at <= last_feature_at
    ) as placed
    inner join moments
        on cast(placed.feature_month as date) = moments.feature_month
{%- endmacro %}

{# The first moment of `customer_features` that can see what happened at a time. #}
{% macro first_moment_after(timestamp) -%}
    cast(date_trunc('month', {{ timestamp }}) + interval 1 month as timestamp)
{%- endmacro %}

{# The first moment of `customer_features` at a time or after it. #}
{% macro first_moment_from(timestamp) -%}
    {{ first_moment_after(timestamp ~ ' - interval 1 microsecond') }}
{%- endmacro %}

{#
    Of the states at moments the one that was the newest known in each version, as `version_from`.
    Needs a CTE `versions`. `keys` and `until` as above.
#}
{% macro newest_known_states(states_at, keys, until=none) -%}
    select
        {{ states_at }}.*,
        versions.known_from as version_from
    from versions
    inner join {{ states_at }}
        on
            versions.customer_id = {{ states_at }}.customer_id
            and versions.feature_at = {{ states_at }}.feature_at
            and versions.known_from >= {{ states_at }}.seen_from
            {%- if until %}
            and (
                {{ states_at }}.{{ until }} is null
                or versions.known_from < {{ states_at }}.{{ until }}
            )
            {%- endif %}
    qualify row_number() over (
        partition by versions.customer_id, versions.feature_at, versions.known_from
        {%- for key in keys %}, {{ states_at }}.{{ key }}{% endfor %}
        order by {{ states_at }}._sequence desc, {{ states_at }}.known_from desc
    ) = 1
{%- endmacro %}

{# A condition: the row is the first of its partition, or one of these columns differs from the row
   before it. #}
{% macro differs_from_row_before(columns, partition_by, order_by) -%}
    {%- set window = '(partition by ' ~ partition_by | join(', ') ~ ' order by ' ~ order_by ~ ')' -%}
    row_number() over {{ window }} = 1
    {%- for column in columns %}
        or {{ column }} is distinct from lag({{ column }}) over {{ window }}
    {%- endfor %}
{%- endmacro %}
