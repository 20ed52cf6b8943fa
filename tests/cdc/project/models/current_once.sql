{{ cdc_current(
    changes=ref('stg_events'), keys=['stream', 'k'], columns=['v', 'w'], once=ref('extract_rows')
) }}
