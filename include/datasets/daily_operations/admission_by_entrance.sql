SELECT
    admission_date,
    entrance_name,
    sum(quantity_sold) AS total_quantity_sold,
    sum(ticket_price * quantity_sold) AS total_gross_revenue
FROM daily_operations.guest_attendance
WHERE admission_date = %(as_of)s
GROUP BY admission_date, entrance_name
