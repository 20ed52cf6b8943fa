{#
    Rounds a decimal to cents, half to even, without ever leaving decimals (a detour over floating
    point would round 0.285 on what is not 0.285). Returns decimal(18,2).
#}
{% macro round_half_even(amount) -%}
    {{ return(adapter.dispatch('round_half_even', 'realtime_insights')(amount)) }}
{%- endmacro %}

{# `bround` is exact on decimals.
   https://docs.databricks.com/aws/en/sql/language-manual/functions/bround #}
{% macro default__round_half_even(amount) -%}
    cast(bround({{ amount }}, 2) as decimal(18, 2))
{%- endmacro %}

{# DuckDB's `round_even` answers a double, so the cent is found with decimal arithmetic: the even
   one of the two neighbours at exactly half a cent, else the nearest. #}
{% macro duckdb__round_half_even(amount) -%}
    cast(
        case
            when abs(({{ amount }}) * 100 - trunc(({{ amount }}) * 100)) = 0.5
                then
                    trunc(({{ amount }}) * 100)
                    + sign({{ amount }}) * (abs(trunc(({{ amount }}) * 100)) % 2)
            else round(({{ amount }}) * 100, 0)
        end * cast(0.01 as decimal(3, 2)) as decimal(18, 2)
    )
{%- endmacro %}

{#
    amount x numerator / denominator, all decimal(18,2), rounded to cents half to even, in whole
    numbers only: `/` between decimals is floating point on one engine and rounds twice on the
    other. NULL for a zero denominator.
#}
{% macro scale_amount(amount, numerator, denominator) -%}
    {{ return(adapter.dispatch('scale_amount', 'realtime_insights')(amount, numerator, denominator)) }}
{%- endmacro %}

{% macro default__scale_amount(amount, numerator, denominator) -%}
    {{ realtime_insights._scaled(amount, numerator, denominator, 'decimal(38, 0)') }}
{%- endmacro %}

{# DuckDB divides 128 bits bit by bit, a dozen times as slowly as the 64 into which the product of two
   amounts of up to 30 million fits. #}
{% macro duckdb__scale_amount(amount, numerator, denominator) -%}
    case
        when abs(try_cast({{ amount }} * 100 as bigint)) <= 3000000000
            and abs(try_cast({{ numerator }} * 100 as bigint)) <= 3000000000
            then {{ realtime_insights._scaled(amount, numerator, denominator, 'bigint') }}
        else {{ realtime_insights._scaled(amount, numerator, denominator, 'hugeint') }}
    end
{%- endmacro %}

{# The same in whole numbers of a type that holds the product. #}
{% macro _scaled(amount, numerator, denominator, whole) -%}
    {%- set product -%}
        (cast({{ amount }} * 100 as {{ whole }}) * cast({{ numerator }} * 100 as {{ whole }}))
    {%- endset -%}
    {%- set divisor -%} nullif(cast({{ denominator }} * 100 as {{ whole }}), 0) {%- endset -%}
    {%- set remainder -%} abs({{ product }} % {{ divisor }}) {%- endset -%}
    {%- set quotient -%} {{ realtime_insights._whole_quotient(product, divisor) }} {%- endset -%}
    cast(
        (
            {{ quotient }}
            + case
                when 2 * {{ remainder }} > abs({{ divisor }})
                    or (2 * {{ remainder }} = abs({{ divisor }}) and {{ quotient }} % 2 <> 0)
                    then cast(sign({{ product }}) * sign({{ divisor }}) as int)
                else 0
            end
        ) * cast(0.01 as decimal(3, 2)) as decimal(18, 2)
    )
{%- endmacro %}

{# The quotient of whole numbers without what is left, as a whole number. #}
{% macro _whole_quotient(number, divisor) -%}
    {{ return(adapter.dispatch('_whole_quotient', 'realtime_insights')(number, divisor)) }}
{%- endmacro %}
{% macro default___whole_quotient(number, divisor) -%}
    {{ return('cast((' ~ number ~ ' - ' ~ number ~ ' % ' ~ divisor ~ ') / ' ~ divisor ~ ' as decimal(38, 0))') }}
{%- endmacro %}
{% macro duckdb___whole_quotient(number, divisor) -%}
    {{ return('divide(' ~ number ~ ', ' ~ divisor ~ ')') }}
{%- endmacro %}
