{#
    A point in time as sources write it, as a UTC timestamp: whole numbers since the epoch in
    milliseconds or microseconds (told apart by their size: 10^14 microseconds is the year 1973,
    10^14 milliseconds the year 5138), or ISO 8601 text. NULL where it is none of these.
#}
{% macro source_timestamp(text) -%}
    {{ return(adapter.dispatch('source_timestamp', 'realtime_insights')(text)) }}
{%- endmacro %}

{# https://docs.databricks.com/aws/en/sql/language-manual/functions/timestamp_micros #}
{% macro default__source_timestamp(text) -%}
    case
        when abs(try_cast({{ text }} as bigint)) >= 100000000000000
            then timestamp_micros(try_cast({{ text }} as bigint))
        when try_cast({{ text }} as bigint) is not null
            then timestamp_millis(try_cast({{ text }} as bigint))
        else try_cast({{ text }} as timestamp)
    end
{%- endmacro %}

{# PostgreSQL's `infinity` is a timestamp and a date in DuckDB, but not in Spark: NULL in both.
   https://duckdb.org/docs/stable/sql/functions/timestamp #}
{% macro duckdb__source_timestamp(text) -%}
    case
        when abs(try_cast({{ text }} as bigint)) >= 100000000000000
            then try(make_timestamp(try_cast({{ text }} as bigint)))
        when try_cast({{ text }} as bigint) is not null
            then try(make_timestamp_ms(try_cast({{ text }} as bigint)))
        when {{ text }} not like '%inf%'
            then cast(try_cast({{ text }} as timestamptz) as timestamp)
    end
{%- endmacro %}

{# A calendar date as sources write it: days since the epoch, or text that starts YYYY-MM-DD. #}
{% macro source_date(text) -%}
    {{ return(adapter.dispatch('source_date', 'realtime_insights')(text)) }}
{%- endmacro %}

{# https://docs.databricks.com/aws/en/sql/language-manual/functions/date_from_unix_date #}
{% macro default__source_date(text) -%}
    case
        when try_cast({{ text }} as int) is not null
            then date_from_unix_date(try_cast({{ text }} as int))
        else try_cast(substr({{ text }}, 1, 10) as date)
    end
{%- endmacro %}

{% macro duckdb__source_date(text) -%}
    case
        when try_cast({{ text }} as int) is not null
            then try(date '1970-01-01' + try_cast({{ text }} as int))
        when {{ text }} not like '%inf%' then try_cast(substr({{ text }}, 1, 10) as date)
    end
{%- endmacro %}

{# Microseconds since the epoch of a UTC timestamp, as bigint. #}
{% macro epoch_microseconds(timestamp) -%}
    {{ return(adapter.dispatch('epoch_microseconds', 'realtime_insights')(timestamp)) }}
{%- endmacro %}

{# https://docs.databricks.com/aws/en/sql/language-manual/functions/unix_micros #}
{% macro default__epoch_microseconds(timestamp) -%} unix_micros({{ timestamp }}) {%- endmacro %}

{% macro duckdb__epoch_microseconds(timestamp) -%} epoch_us({{ timestamp }}) {%- endmacro %}

{# Whole days from one timestamp to a later one, by calendar date in UTC. #}
{% macro days_between(earlier, later) -%}
    {{ return(adapter.dispatch('days_between', 'realtime_insights')(earlier, later)) }}
{%- endmacro %}

{# https://docs.databricks.com/aws/en/sql/language-manual/functions/datediff #}
{% macro default__days_between(earlier, later) -%}
    cast(datediff({{ later }}, {{ earlier }}) as int)
{%- endmacro %}

{% macro duckdb__days_between(earlier, later) -%}
    cast(date_diff('day', {{ earlier }}, {{ later }}) as int)
{%- endmacro %}

{# A date some whole days later, or earlier for a negative number. #}
{% macro add_days(date, days) -%}
    {{ return(adapter.dispatch('add_days', 'realtime_insights')(date, days)) }}
{%- endmacro %}

{# https://docs.databricks.com/aws/en/sql/language-manual/functions/date_add #}
{% macro default__add_days(date, days) -%} date_add({{ date }}, {{ days }}) {%- endmacro %}

{# https://duckdb.org/docs/stable/sql/functions/date #}
{% macro duckdb__add_days(date, days) -%}
    ({{ date }} + cast({{ days }} as int))
{%- endmacro %}

{# The time now as a UTC timestamp without a zone. #}
{% macro utc_now() -%}
    {{ return(adapter.dispatch('utc_now', 'realtime_insights')()) }}
{%- endmacro %}

{% macro default__utc_now() -%} {{ return('current_timestamp()') }} {%- endmacro %}

{% macro duckdb__utc_now() -%}
    {{ return("cast(get_current_timestamp() at time zone 'UTC' as timestamp)") }}
{%- endmacro %}

{# One row per day, column `date_day`, from the first to the last date, both inclusive. #}
{% macro date_series(first, last) -%}
    {{ return(adapter.dispatch('date_series', 'realtime_insights')(first, last)) }}
{%- endmacro %}

{# https://docs.databricks.com/aws/en/sql/language-manual/functions/sequence #}
{% macro default__date_series(first, last) -%}
    select explode(sequence(date '{{ first }}', date '{{ last }}', interval 1 day)) as date_day
{%- endmacro %}

{# A function that answers rows: a list of days, being constant, would be made anew whenever a query
   over them is planned. https://duckdb.org/docs/stable/sql/functions/table #}
{% macro duckdb__date_series(first, last) -%}
    select cast(date_day as date) as date_day
    from generate_series(timestamp '{{ first }}', timestamp '{{ last }}', interval 1 day) as days (date_day)
{%- endmacro %}
