{{ cdc_current(
    changes=[ref('stg_events'), ref('stg_events_b')], keys=['stream', 'k'], columns=['v', 'w']
) }}
