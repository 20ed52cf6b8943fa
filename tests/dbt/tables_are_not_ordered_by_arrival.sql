-- A table whose sequence is when a record arrived is green and wrong: whatever comes late wins.
-- One row for each such table.
{%- set arrival = ['_ingested_at', 'ingested_at', 'batch_id', '_position', '_applied_run'] %}
{%- set found = [] %}
{%- if execute %}
    {%- for node in realtime_insights._cdc_nodes() %}
        {%- for column in node.config.meta.cdc.sequence if column in arrival %}
            {%- do found.append("select '" ~ node.name ~ "' as model") %}
        {%- endfor %}
    {%- endfor %}
{%- endif %}
{{ found | join(' union all ') or 'select 1 as model where false' }}
