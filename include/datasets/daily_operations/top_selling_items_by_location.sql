SELECT
    sales_date,
    location_name,
    item_name,
    quantity_rank
FROM (
    SELECT
        sales_date,
        location_name,
        item_name,
        rank() OVER (PARTITION BY location_name ORDER BY sum(quantity_sold) DESC) AS quantity_rank
    FROM daily_operations.item_sales
    WHERE sales_date = %(as_of)s
    GROUP BY sales_date, location_name, item_name
) AS ranked
WHERE quantity_rank = 1
