{#
    Labels with the features of their customers as of the moment of the label: a SELECT with the
    columns of `labels`, `feature_at` and the features. Nothing that happened after `feature_at`
    reaches a row, and `feature_at` is never after the label. A label without features keeps NULLs.

    labels     relation, or the name of a CTE, with `customer_id` and `labelled_at` (UTC)
    as_known   then: from what was landed when the label was set, as a model in use would have seen
               it; now: from what is known today, late, corrected and deleted records applied
    features   list of features; default: all
#}
{% macro point_in_time(labels, as_known='then', features=none) -%}
    {%- if as_known not in ['then', 'now'] -%}
        {%- do exceptions.raise_compiler_error(
            "point_in_time: as_known is 'then' or 'now', not " ~ as_known
        ) -%}
    {%- endif -%}
    {%- set features = realtime_insights.feature_names() if features is none else features -%}
    {%- for feature in features if feature not in realtime_insights.feature_names() -%}
        {%- do exceptions.raise_compiler_error(
            'point_in_time: there is no feature ' ~ feature ~ '; there are '
            ~ realtime_insights.feature_names() | join(', ')
        ) -%}
    {%- endfor -%}
select
    labels.*,
    as_of_label.feature_at,
    {%- for feature in features %}
    as_of_label.{{ feature }}{{ ',' if not loop.last }}
    {%- endfor %}
from {{ labels }} as labels
left join (
    select
        moments.customer_id,
        moments.labelled_at,
        features.feature_at,
        {%- for feature in features %}
        features.{{ feature }}{{ ',' if not loop.last }}
        {%- endfor %}
    from (
        select distinct
            customer_id,
            labelled_at
        from {{ labels }}
    ) as moments
    inner join {{ ref('customer_features') }} as features
        on
            moments.customer_id = features.customer_id
            and moments.labelled_at >= features.feature_at
            {%- if as_known == 'then' %}
            and moments.labelled_at >= features.known_from
            and (features.known_to is null or moments.labelled_at < features.known_to)
            {%- else %}
            and features.known_to is null
            {%- endif %}
    qualify row_number() over (
        partition by moments.customer_id, moments.labelled_at order by features.feature_at desc
    ) = 1
) as as_of_label
    on
        labels.customer_id = as_of_label.customer_id
        and labels.labelled_at = as_of_label.labelled_at
{%- endmacro %}
