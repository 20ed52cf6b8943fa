{{ cdc_current(
    changes=[ref('stg_berka__accounts')],
    keys=['account_id'],
    columns=['district_id', 'statement_frequency', 'opened_on'],
) }}
