{#
    The states of a bitemporal relation at each moment at which they may be the newest: a SELECT with
    the columns of `states`, `feature_at`, and as `known_from` when the state could be seen there.
    Needs a CTE `moments`.

    A state is left out from the first moment on which a newer one was known in time, so that every
    moment sees few rows, however long the history is.

    states   name of a CTE with the key columns, `changed_at`, `known_from`, `_sequence`
    keys     list of the columns that identify what has the state
#}
{% macro states_at_moments(states, keys) -%}
    select
        ranged.*,
        moments.feature_at,
        greatest(ranged.known_from, moments.feature_at) as seen_from
    from (
        select
            seen.*,
            min(case when known_from <= first_feature_at then first_feature_at end) over (
                partition by {{ keys | join(', ') }} order by _sequence desc, known_from desc
                rows between unbounded preceding and 1 preceding
            ) as replaced_at
        from (
            select
                *,
                {{ first_moment_after('changed_at') }} as first_feature_at
            from {{ states }}
        ) as seen
    ) as ranged
    inner join moments
        on
            ranged.first_feature_at <= moments.feature_at
            and (ranged.replaced_at is null or ranged.replaced_at > moments.feature_at)
    where ranged.replaced_at is null or ranged.replaced_at > ranged.first_feature_at
{%- endmacro %}

{# The first moment of `customer_features` that can see what happened at a time. #}
{% macro first_moment_after(timestamp) -%}
    cast(date_trunc('month', {{ timestamp }}) + interval 1 month as timestamp)
{%- endmacro %}

{#
    Of the states at moments the one that was the newest known in each version, as `version_from`.
    Needs a CTE `versions`.
#}
{% macro newest_known_states(states_at, keys) -%}
    select
        {{ states_at }}.*,
        versions.known_from as version_from
    from versions
    inner join {{ states_at }}
        on
            versions.customer_id = {{ states_at }}.customer_id
            and versions.feature_at = {{ states_at }}.feature_at
            and versions.known_from >= {{ states_at }}.seen_from
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
