# nano.gp - training cross-entropy by tokens read, and held-out NLL by source; `draw` runs it.
set terminal svg size 1000,380 font "sans-serif,13" background "white"
set output "nano.svg"
set datafile separator ","
set border 3 lc rgb "#666666"
set tics nomirror
set grid ytics lc rgb "#dddddd"
red = "#b5404a"
dec = "#2f6f9f"
set multiplot layout 1, 2
set title "training"
set xlabel "million tokens read"
set ylabel "cross-entropy, nats per token"
set xrange [0:*]
set key top right
plot "curve.csv" skip 1 using ($1 / 1e6):2 with lines lw 2 lc rgb red title "RedLLM", \
     "curve.csv" skip 1 using ($1 / 1e6):3 with lines lw 2 lc rgb dec title "DecLLM"
set title "held out, second half of each sequence"
unset xlabel
set ylabel "NLL, nats per token"
set xrange [-0.6:5.6]
set yrange [0:*]
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.9 noborder
set xtics rotate by -25
set key top left horizontal
set offsets 0, 0, graph 0.15, 0
plot "sources.csv" skip 1 using 2:xtic(1) lc rgb red title "RedLLM", \
     "sources.csv" skip 1 using 3 lc rgb dec title "DecLLM"
unset multiplot
