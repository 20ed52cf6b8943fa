{{ cdc_current(
    changes=ref('stg_events'), keys=var('keys'), columns=['v', 'w', 'x'], sequence=var('sequence'),
    ignore_null_updates=true,
) }}
