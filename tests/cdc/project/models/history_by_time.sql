{{ cdc_history(changes=ref('stg_events'), keys=['stream', 'k'], columns=['v'], sequence='seq_time') }}
