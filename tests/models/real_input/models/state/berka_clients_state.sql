{{ cdc_current(
    changes=[ref('stg_berka__clients')],
    keys=['client_id'],
    columns=['district_id', 'gender', 'birth_date'],
) }}
