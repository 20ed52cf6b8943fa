{{ cdc_current(
    changes=ref('stg_events'), keys=['stream', 'k'], columns=['v', 'w'],
    ignore_null_updates_except=['v'],
) }}
