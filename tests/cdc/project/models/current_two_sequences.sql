{{ cdc_current(
    changes=ref('stg_events'), keys=['stream', 'k'], columns=['v', 'w'], sequence=['seq', 'seq_2']
) }}
