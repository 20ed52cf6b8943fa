{#
    What every staging macro ends with. Its input is a relation with one text per field
    (`_text_<field>`), `_op`, `_is_deleted`, `_sequence`, `_changed_at`, `_value` and the bronze
    address. Its output has every field typed and says why a record cannot be used, if so: the first
    check that fails, then a key that is missing, then a field that is not of its type, then a
    missing sequence. Such a record stays in the view, with its reason, and silver leaves it out.

    checks            pairs of a condition and a reason; a reason of none means "usable as it is"
    large             as in `debezium_changes`
    unavailable       Debezium may stand behind it: look for its placeholder of unchanged values
    key_only_deletes  the texts of a delete beyond its key are made up or outdated: not read
    value             the record as text, read for rejected records only (`_record` hands it on
                      to `change_columns()`, where expectations may reject more)
    truncates         a truncate may hold texts: not read either
#}
{% macro _typed_and_checked(
    relation, columns, keys, checks, large=[], unavailable=false, key_only_deletes=false,
    truncates=false, value='_value'
) -%}
{%- set is_judged = realtime_insights.expectations_of(model) | length > 0 -%}
typed as (
    select
        *,
        {%- for name, type in columns.items() %}
        {% set typed = realtime_insights.typed(realtime_insights._text(name), type, unavailable) -%}
        {% set conditions = [] -%}
        {% if key_only_deletes and name not in keys -%}
            {%- do conditions.append('not _is_deleted') -%}
        {%- endif -%}
        {% if truncates %}{% do conditions.append("_op <> 't'") %}{% endif -%}
        {% if conditions -%}
        case when {{ conditions | join(' and ') }} then {{ typed }} end
        {%- else -%} {{ typed }}
        {%- endif %} as {{ adapter.quote(name) }}{{ ',' if not loop.last or large }}
        {%- endfor %}
        {%- for name in large %}
        coalesce({{ realtime_insights._text(name) }} <> {{ realtime_insights.unavailable_value() }}, true)
            as _has_{{ name }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ relation }}
),

checked as (
    select
        *,
        case
            {%- for condition, reason in checks %}
            when {{ condition }} then {{ "'" ~ reason ~ "'" if reason else 'cast(null as string)' }}
            {%- endfor %}
            {%- for name in keys %}
            when {{ realtime_insights._text(name) }} is null then 'key {{ name }} is missing'
            {%- endfor %}
            {%- for name, type in columns.items()
                if unavailable and type == 'string' and name not in large %}
            when {{ realtime_insights._text(name) }} = {{ realtime_insights.unavailable_value() }}
                {%- if key_only_deletes and name not in keys %} and not _is_deleted{% endif %}
                then '{{ name }} is an unchanged large value: list it in large'
            {%- endfor %}
            {%- for name, type in columns.items() if type != 'string' %}
            when {{ realtime_insights.is_not_typed(
                realtime_insights._text(name), adapter.quote(name), type
            ) }}
                {%- if key_only_deletes and name not in keys %} and not _is_deleted{% endif %}
                then '{{ name }} is not of type {{ type }}'
            {%- endfor %}
            when _sequence is null then 'the sequence is missing'
        end as _reject_reason
    from typed
),

explained as (
    select
        *,
        cast(null as string) as _broken_rules,
        {%- if is_judged %}
        {{ value }} as _record,
        {%- endif %}
        case when _reject_reason is not null then {{ value }} end as _rejected_value
    from checked
)

select
    {%- for name in columns %}
    {{ adapter.quote(name) }},
    {%- endfor %}
    {%- for name in large %}
    _has_{{ name }},
    {%- endfor %}
    {%- if is_judged %}
    _record,
    {%- endif %}
    {{ realtime_insights._change_column_names() | join(',\n    ') }}
from explained
{%- endmacro %}

{# The column that holds the text of a field. #}
{% macro _text(name) -%} {{ return(adapter.quote('_text_' ~ name)) }} {%- endmacro %}

{#
    Checks of operations: truncates pass, or are rejected with what to do about them; any other
    operation that is not known is rejected.
#}
{% macro _operation_checks(truncates) -%}
    {%- if truncates -%}
    {{ return([
        ("_op = 't' and _sequence is not null", none),
        ("_op = 't'", "the sequence is missing"),
        ("_op is null or _op not in ('c', 'u', 'd', 'r')", "unknown operation"),
    ]) }}
    {%- else -%}
    {{ return([
        ("_op = 't'", "truncate: no rule for truncates is set for this table"),
        ("_op is null or _op not in ('c', 'u', 'd', 'r')", "unknown operation"),
    ]) }}
    {%- endif -%}
{%- endmacro %}
