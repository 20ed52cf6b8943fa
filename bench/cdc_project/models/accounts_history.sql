{{ cdc_history(changes=ref('stg_accounts'), keys=['id']) }}
