"""The statements on budgets and breakers; values are always bound."""

# If several runs use different limits, the strictest of the last five minutes applies.
_STRICTEST = """greatest(%(least)s, CASE WHEN stated_at > clock_timestamp() - interval '5 minutes'
    THEN spacing ELSE 0 END)"""

_STEP = f"greatest({_STRICTEST}, %(pause)s)"

# No permit is granted further ahead: a later moment was set by a clock that went back since.
_NEXT = f"""least(latest_at, clock_timestamp() + make_interval(secs => %(ahead)s))
    + make_interval(secs => {_STEP})"""

# as many at once as fit into a lot, at least one
_GIVEN = f"greatest(1, least(%(count)s, floor(%(lot)s / {_STEP})))"

# The last permit is the latest of all. Returns the wait for the first, their spacing and number.
TAKE_PERMITS = f"""
UPDATE budgets SET
    latest_at = greatest(clock_timestamp(), {_NEXT})
        + make_interval(secs => ({_GIVEN} - 1) * {_STEP}),
    spacing = {_STRICTEST},
    stated_at = CASE WHEN %(least)s >= {_STRICTEST} THEN clock_timestamp() ELSE stated_at END,
    permits = permits + {_GIVEN}
WHERE source = %(source)s AND lane = %(lane)s
    AND {_NEXT} <= clock_timestamp() + make_interval(secs => %(ahead)s)
    AND NOT EXISTS (
        SELECT FROM breakers WHERE source = %(source)s AND strikes > 0
            AND (open_until > clock_timestamp() OR probe_by IS DISTINCT FROM %(me)s))
RETURNING extract(epoch FROM latest_at - clock_timestamp())::float - ({_GIVEN} - 1) * {_STEP},
    {_STEP}, {_GIVEN}::int
"""

ADD_QUOTA = """
INSERT INTO budgets (source, lane, spacing, latest_at)
VALUES (%(source)s, %(lane)s, %(least)s, clock_timestamp() - make_interval(secs => %(pause)s))
ON CONFLICT DO NOTHING
"""

READ_QUOTA = """
SELECT b.source IS NOT NULL AS "exists",
    extract(epoch FROM b.latest_at + make_interval(secs => b.spacing) - clock_timestamp())::float
        AS busy,
    extract(epoch FROM k.open_until - clock_timestamp())::float AS open,
    to_char(k.open_until, 'YYYY-MM-DD HH24:MI:SS') AS until, k.reason,
    k.error_class
FROM (VALUES (1)) AS one
LEFT JOIN budgets b ON b.source = %(source)s AND b.lane = %(lane)s
LEFT JOIN breakers k ON k.source = %(source)s AND k.strikes > 0
"""

# One job at a time probes a source, and only once the pause is over.
BEGIN_PROBE = """
UPDATE breakers SET probe_by = %(me)s,
    probe_until = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE source = %(source)s AND strikes > 0 AND open_until <= clock_timestamp()
    AND (probe_by = %(me)s OR probe_until IS NULL OR probe_until < clock_timestamp())
"""

# A refusal counts once for all requests that were under way: not while the source pauses, and not
# beside a job that probes it. The first pause is as long as the source asks for, if it does. A
# later one is twice as long as the one before, or what the source asks for, if that is longer.
OPEN_BREAKER = """
INSERT INTO breakers AS k (source, strikes, opened_at, open_until, reason, error_class)
VALUES (%(source)s, 1, clock_timestamp(),
    clock_timestamp() + make_interval(secs => coalesce(%(retry_after)s, %(first)s)), %(reason)s,
    %(error_class)s)
ON CONFLICT (source) DO UPDATE SET
    (strikes, opened_at, open_until, reason, error_class, probe_by, probe_until) = (
        SELECT k.strikes + 1, clock_timestamp(),
            clock_timestamp() + make_interval(secs => CASE
                WHEN k.strikes = 0 THEN coalesce(%(retry_after)s, %(first)s)
                ELSE greatest(
                    coalesce(%(retry_after)s, 0),
                    least(%(longest)s,
                        2 * greatest(1, extract(epoch FROM k.open_until - k.opened_at)))) END),
            excluded.reason, excluded.error_class, NULL::varchar, NULL::timestamptz)
WHERE k.strikes = 0 OR k.open_until <= clock_timestamp() AND (
    k.probe_by = %(me)s OR k.probe_until IS NULL OR k.probe_until < clock_timestamp())
"""

# a request that was under way when the pause began may bring a longer one
EXTEND_PAUSE = """
UPDATE breakers SET
    open_until = clock_timestamp() + make_interval(secs => %(retry_after)s)
WHERE source = %(source)s AND strikes > 0 AND open_until > clock_timestamp()
    AND open_until < clock_timestamp() + make_interval(secs => %(retry_after)s)
"""

CLOSE_BREAKERS = """
UPDATE breakers SET strikes = 0, open_until = NULL, probe_by = NULL, probe_until = NULL
WHERE source = ANY(%(sources)s) AND probe_by = %(me)s AND open_until <= clock_timestamp()
"""

END_PROBE = """
UPDATE breakers SET probe_by = NULL, probe_until = NULL
WHERE source = ANY(%(sources)s) AND probe_by = %(me)s
"""

RESET = """
UPDATE breakers SET strikes = 0, open_until = NULL, probe_by = NULL, probe_until = NULL
WHERE strikes > 0 AND (%(source)s::varchar IS NULL OR source = %(source)s) RETURNING source
"""

# videos of other sources are held back again by the pause of their own
WAIT_NO_LONGER = """
UPDATE videos SET not_before = NULL WHERE not_before > clock_timestamp()
"""

PAUSES = """
SELECT source, reason, strikes, opened_at, open_until,
    greatest(extract(epoch FROM open_until - clock_timestamp()), 0)::float AS seconds_left
FROM breakers WHERE strikes > 0 ORDER BY source
"""

BUDGETS = """
SELECT source, lane, spacing, permits, latest_at,
    greatest(extract(epoch FROM latest_at - clock_timestamp()), 0)::float AS seconds_ahead
FROM budgets ORDER BY source, lane
"""
