{# Fails where the open versions of a history are not exactly the current state: the two are built
   from the same changes by different rules. #}
{% test open_versions_are_current(model, current, columns, valid_to='valid_to') %}
with

open_versions as (
    select {{ columns | join(', ') }}
    from {{ model }}
    where {{ valid_to }} is null
),

current_rows as (
    select {{ columns | join(', ') }}
    from {{ current }}
),

missing as (
    select * from current_rows
    except
    select * from open_versions
),

superfluous as (
    select * from open_versions
    except
    select * from current_rows
)

select * from missing
union all
select * from superfluous
{% endtest %}
