// SPDX-License-Identifier: BSD-2-Clause
//
// The work of bench/channel.cpp in Go: prints for each row the median of five runs, in ns an operation, by the clock and by the CPU time of the
// whole process.  run.sh runs both sides.
//
//	go run main.go [-gomaxprocs 1,2]
//
// unbuffered, buffered:128  one goroutine sends, one receives; an operation is one value handed over
// select/ready:8            one goroutine, eight buffered channels that all have a value: an operation takes one by select and puts it back
// select/blocked            one goroutine sends in turn on two channels, one selects over both, which has to block
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func transfer(capacity, values int) time.Duration {
	ch := make(chan int, capacity)
	done := make(chan int)
	begin := time.Now()
	go func() {
		sum := 0
		for v := range ch {
			sum += v
		}
		done <- sum
	}()
	for i := 0; i < values; i++ {
		ch <- i
	}
	close(ch)
	sum := <-done
	took := time.Since(begin)
	if sum != values*(values-1)/2 {
		fmt.Fprintln(os.Stderr, "a value was lost")
		os.Exit(1)
	}
	return took
}

func ready(values int) time.Duration {
	var ch [8]chan int
	for i := range ch {
		ch[i] = make(chan int, 1)
		ch[i] <- i
	}
	sum := 0
	begin := time.Now()
	for i := 0; i < values; i++ {
		var v int
		select {
		case v = <-ch[0]:
		case v = <-ch[1]:
		case v = <-ch[2]:
		case v = <-ch[3]:
		case v = <-ch[4]:
		case v = <-ch[5]:
		case v = <-ch[6]:
		case v = <-ch[7]:
		}
		ch[v] <- v
		sum += v
	}
	took := time.Since(begin)
	if sum == 0 {
		os.Exit(1)
	}
	return took
}

func blocked(values int) time.Duration {
	a, b := make(chan int), make(chan int)
	done := make(chan int)
	begin := time.Now()
	go func() {
		sum := 0
		for i := 0; i < values; i++ {
			select {
			case v := <-a:
				sum += v
			case v := <-b:
				sum += v
			}
		}
		done <- sum
	}()
	for i := 0; i < values; i += 2 {
		a <- 1
		b <- 1
	}
	sum := <-done
	took := time.Since(begin)
	if sum != values {
		os.Exit(1)
	}
	return took
}

func cpu() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

func row(name string, values int, run func() time.Duration) {
	var wall, used []float64
	for i := 0; i < 5; i++ {
		before := cpu()
		wall = append(wall, float64(run().Nanoseconds())/float64(values))
		used = append(used, float64((cpu()-before).Nanoseconds())/float64(values))
	}
	sort.Float64s(wall)
	sort.Float64s(used)
	fmt.Printf("%-36s %8.1f ns %8.1f ns CPU\n", name, wall[2], used[2])
}

func main() {
	counts := flag.String("gomaxprocs", "1,2", "values of GOMAXPROCS, one after the other")
	flag.Parse()
	const values = 4_000_000
	for _, text := range strings.Split(*counts, ",") {
		procs, err := strconv.Atoi(text)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		runtime.GOMAXPROCS(procs)
		suffix := "/gomaxprocs:" + text
		row("unbuffered"+suffix, values, func() time.Duration { return transfer(0, values) })
		row("buffered:128"+suffix, values, func() time.Duration { return transfer(128, values) })
		row("select/ready:8"+suffix, values, func() time.Duration { return ready(values) })
		row("select/blocked"+suffix, values, func() time.Duration { return blocked(values) })
	}
}
