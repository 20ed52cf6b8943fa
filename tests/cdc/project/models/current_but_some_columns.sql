{{ cdc_current(
    changes=ref('stg_events'), keys=['stream', 'k'], except_columns=['w', 'x', 'address', 'sets', 'tags']
) }}
