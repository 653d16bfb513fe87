# Prints a line in two pieces, the second when somebody writes to the FIFO.
printf one
read -r word <fifo
echo " line, $word"
exec sleep infinity
