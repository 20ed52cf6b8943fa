{{ cdc_current(
    changes=ref('stg_truncated'), keys=['stream', 'k'], columns=['v'], truncate_when="_op = 't'"
) }}
