{{ cdc_history(
    changes=ref('stg_events'), keys=var('keys'), columns=['v', 'w', 'x'], sequence=var('sequence'),
    updated_columns='sets',
) }}
