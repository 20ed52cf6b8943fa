{{ config(post_hook="{{ exceptions.raise_compiler_error('crash') if var('crash') and execute }}") }}

{{ cdc_current(changes=ref('stg_events'), keys=['stream', 'k'], columns=['v', 'w']) }}
