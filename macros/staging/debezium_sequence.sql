{#
    What orders the changes of one key, per Debezium connector: private parts of `debezium_changes`
    and `debezium_unwrapped_changes`. docs/sources.md says why these fields, and what they cannot
    order.
#}

{# The fields of `source` that the sequence is made of. #}
{% macro _debezium_position_fields(connector) -%}
    {%- set fields = {
        'postgresql': ['lsn'],
        'mysql': ['server_id', 'file', 'pos', 'row'],
        'sqlserver': ['commit_lsn', 'change_lsn', 'event_serial_no'],
    } -%}
    {%- if connector not in fields -%}
        {%- do exceptions.raise_compiler_error(
            "connector '" ~ connector ~ "' is not one of " ~ fields | join(', ')
        ) -%}
    {%- endif -%}
    {{ return(fields[connector]) }}
{%- endmacro %}

{#
    fields    dict of those fields to their SQL, texts
    op        SQL of the operation, as Debezium writes it
    servers   MySQL: as in `debezium_changes`
#}
{% macro _debezium_sequence(connector, fields, op, servers) -%}
    {%- if connector == 'postgresql' -%}
    try_cast({{ fields.lsn }} as bigint)
    {%- elif connector == 'mysql' -%}
    {%- set file = "try_cast(regexp_extract(" ~ fields.file ~ ", '([0-9]+)$', 1) as bigint)" -%}
    {%- set pos = "try_cast(" ~ fields.pos ~ " as bigint)" -%}
    case
        when {{ file }} is not null and {{ pos }} is not null
            then {{ realtime_insights.sequence_struct({
                'server': realtime_insights._mysql_server(fields.server_id, servers),
                'file': file,
                'pos': pos,
                'row': "case when " ~ op ~ " = 'r' then -1 else coalesce(try_cast(" ~ fields.row
                    ~ " as int), 0) end",
            }) }}
    end
    {%- else -%}
    case
        when {{ fields.commit_lsn }} is not null
            then {{ realtime_insights.sequence_struct({
                'commit_lsn': fields.commit_lsn,
                'change_lsn': "coalesce(" ~ fields.change_lsn ~ ", '')",
                'event_serial_no': "coalesce(try_cast(" ~ fields.event_serial_no ~ " as bigint), 0)",
            }) }}
    end
    {%- endif -%}
{%- endmacro %}

{# The place of a server among those that were read one after the other. A snapshot does not say its
   server: 0. #}
{% macro _mysql_server(server_id, servers) -%}
    {%- if not servers -%} {{ return('0') }} {%- endif -%}
    {%- set cases = [] -%}
    {%- for server in servers -%}
        {%- do cases.append("when '" ~ server ~ "' then " ~ loop.index0) -%}
    {%- endfor -%}
    {{ return("case " ~ server_id ~ " " ~ cases | join(' ') ~ " else 0 end") }}
{%- endmacro %}

{% macro _debezium_server_checks(connector, fields, servers) -%}
    {%- if connector != 'mysql' or not servers -%} {{ return([]) }} {%- endif -%}
    {{ return([(
        "coalesce(" ~ fields.server_id ~ ", '0') not in ('0', '" ~ servers | join("', '") ~ "')",
        "a server that is not listed in servers",
    )]) }}
{%- endmacro %}
