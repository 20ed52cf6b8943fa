{{ cdc_history(
    snapshots=ref('stg_snapshots'), keys=['stream', 'k'], columns=['v', 'w'], sequence='seq'
) }}
