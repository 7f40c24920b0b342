"""Sample history: a month of spending by several teams, to fill the dashboards.

    month = Month(days=30, end=time.time())
    backfill(month, directory, storage)   # write it into Prometheus' storage
    with MonthServer(month) as server:    # continue it live at server.address, for Prometheus to scrape
        ...

Only the end differs between runs. Nights and weekends are quiet, usage grows, providers have outages and one
agent runs away. Prices are the published ones. The raw series are what a process exports. The recorded series
are computed here as well: Prometheus does not evaluate rules over backfilled data, and promtool cannot
evaluate rules that read other recorded series.
"""
