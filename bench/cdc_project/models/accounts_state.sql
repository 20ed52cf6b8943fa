{{ cdc_current(changes=ref('stg_accounts'), keys=['id']) }}
