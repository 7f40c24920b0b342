"""The dashboards and rules for Grafana and Prometheus: generating, writing and uploading them."""
