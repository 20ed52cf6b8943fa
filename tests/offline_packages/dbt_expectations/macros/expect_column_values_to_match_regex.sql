{#- Fails for each text in which the regular expression matches nowhere; a null is no failure.
    `flags`: `i` ignores case, `c` does not (as without it). `is_raw` says nothing that either engine
    can act on. No backslashes, please: Spark's text literals swallow them. -#}
{% test expect_column_values_to_match_regex(
    model, column_name, regex, row_condition=None, is_raw=False, flags=""
) %}
{%- if flags not in ["", "c", "i"] -%}
    {{ exceptions.raise_compiler_error("flags is one of i, c, or nothing, not " ~ flags) }}
{%- endif -%}
{%- set pattern = ("(?i)" if flags == "i" else "") ~ regex -%}
{#- The engines share no function that tells an empty match from none. Replacing a match by more
    characters than the text has makes the text longer whatever was matched. -#}
select {{ column_name }} as unexpected_value
from {{ model }}
where
    ({{ row_condition or "1 = 1" }})
    and length(
        regexp_replace({{ column_name }}, '{{ pattern }}', repeat('x', length({{ column_name }}) + 1))
    ) <= length({{ column_name }})
{% endtest %}
