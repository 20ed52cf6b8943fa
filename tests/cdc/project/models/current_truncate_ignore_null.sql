{{ cdc_current(
    changes=ref('stg_truncated'), keys=['stream', 'k'], columns=['v', 'w'],
    truncate_when="_op = 't'", ignore_null_updates=true,
) }}
