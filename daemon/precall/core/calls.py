"""Placed calls as the provider files them: by day, in its own time zone. How a call went is read elsewhere."""

DAY = 86_400
SHANGHAI = 8 * 3600
"""Seconds ahead of UTC, the whole year: China has kept no summer time since 1991."""
NEAR_MIDNIGHT = 600


def query_date(called_at: float) -> list[int]:
    """The values of QueryDate, in milliseconds, under which a call placed at `called_at` may be found, the likeliest
    first: midnight in Shanghai of its day, and of the day before when it was placed within ten minutes of midnight,
    since the provider files it by its own clock.

    Milliseconds, though the example on the product page of QueryCallDetailByCallId is in seconds: a value in
    seconds is a day in 1970, which is answered `OK` with nothing in it. Midnight, because the page reads "that day"
    and the newer documents read "the 24 hours after": both then mean the same.
    """
    since_midnight = (called_at + SHANGHAI) % DAY
    midnight = round(called_at - since_midnight)
    days = [midnight, midnight - DAY] if since_midnight < NEAR_MIDNIGHT else [midnight]
    return [day * 1000 for day in days]
