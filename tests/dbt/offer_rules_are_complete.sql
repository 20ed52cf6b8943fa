-- One row for every rule or offer that could never work: a rule of no offer; a measure that cannot
-- be taken of its subject; an offer that reacts to nothing, or could not say why; two sentences in
-- one place; a reason without words; an id in both catalogues.
with

rules as (
    select * from {{ ref('offer_rules') }}
),

measures as (
    select * from {{ ref('offer_measures') }}
),

offers as (
    select * from {{ ref('offer_catalogue') }}
),

loans as (
    select * from {{ ref('loan_catalogue') }}
),

catalogue as (
    select offer_id from offers
    union all
    select offer_id from loans
),

asked_for as (
    select
        offer_id,
        measure,
        subject,
        reason_number
    from rules
    union all
    select
        offer_id,
        value_measure as measure,
        value_subject as subject,
        cast(null as int) as reason_number
    from offers
    where value_measure is not null
    union all
    select
        offer_id,
        instalment_measure as measure,
        instalment_subject as subject,
        cast(null as int) as reason_number
    from loans
),

-- What a category is called is known from the seeds that name categories.
categories as (
    select preference_category as subject from {{ ref('merchant_categories') }}
    union distinct
    select preference_category as subject from {{ ref('preference_categories') }}
    union distinct
    select preference_category as subject from {{ ref('page_categories') }}
),

problems as (
    select
        rules.offer_id,
        'its rule belongs to no offer' as problem
    from rules
    left join catalogue
        on rules.offer_id = catalogue.offer_id
    where rules.offer_id <> '*' and catalogue.offer_id is null
    union all
    select
        asked_for.offer_id,
        'nobody measures ' || asked_for.measure || ' of ' || asked_for.subject as problem
    from asked_for
    left join measures as own
        on asked_for.measure = own.measure and asked_for.subject = own.subject
    left join measures as rest
        on asked_for.measure = rest.measure and rest.subject = '*'
    left join categories
        on asked_for.subject = categories.subject
    where own.measure is null and (rest.measure is null or categories.subject is null)
    union all
    select
        asked_for.offer_id,
        'a reason has no words: ' || asked_for.measure as problem
    from asked_for
    left join measures as own
        on asked_for.measure = own.measure and asked_for.subject = own.subject
    left join measures as rest
        on asked_for.measure = rest.measure and rest.subject = '*'
    where
        asked_for.reason_number is not null
        and coalesce(own.sentence, rest.sentence) is null
    union all
    select
        catalogue.offer_id,
        'no trigger gives the first reason' as problem
    from catalogue
    left join rules
        on
            catalogue.offer_id = rules.offer_id
            and rules.role = 'trigger'
            and rules.reason_number = 1
    where rules.offer_id is null
    union all
    select
        offer_id,
        'two sentences in one place' as problem
    from rules
    where reason_number is not null
    group by offer_id, reason_number
    having count(*) > 1
    union all
    select
        offer_id,
        'in both catalogues' as problem
    from catalogue
    group by offer_id
    having count(*) > 1
)

select * from problems
