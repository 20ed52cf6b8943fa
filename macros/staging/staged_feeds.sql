{# The staging models of changes, one per feed: what observability counts. A new feed is added here. #}
{% macro staged_feeds() -%}
    {{ return([
        ref('stg_bank__customers'),
        ref('stg_bank__accounts'),
        ref('stg_bank__card_transactions'),
        ref('stg_bank__checking_transactions'),
        ref('stg_bank__loan_applications'),
        ref('stg_reference__purchase_trends'),
        ref('stg_reference__checking_acct'),
        ref('stg_app__clickstream'),
        ref('stg_vendors__tickets'),
        ref('stg_vendors__travel'),
        ref('stg_vendors__dining'),
        ref('stg_vendors__retail'),
    ]) }}
{%- endmacro %}
