{{ cdc_history(
    changes=ref('stg_events'), keys=['stream', 'k'], columns=['v', 'w'], track_except=['w']
) }}
