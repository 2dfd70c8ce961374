// SPDX-License-Identifier: BSD-2-Clause
//
// The work of ../work.h in Go: the same rows, keys and output.  workers is GOMAXPROCS.  A semaphore is made of a channel; there is no park.
// Where work.h has one counter for all it is written here as there: atomics where there are atomics, none where a lock covers it.
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type job struct {
	workers, ops, threads, storm, burst, capacity, hold int
	samples                                      string
}

func fail(what string) {
	fmt.Fprintln(os.Stderr, what)
	os.Exit(1)
}

func check(ok bool, what string) {
	if !ok {
		fail(what)
	}
}

func say(name string, value float64, unit string) { fmt.Printf("%s %.6g %s\n", name, value, unit) }

func cpu() time.Duration {
	var use syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &use) == nil, "getrusage failed")
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

type stopwatch struct {
	wall time.Time
	cpu  time.Duration
}

func begin() stopwatch { return stopwatch{cpu: cpu(), wall: time.Now()} }

func (s stopwatch) say(ops int) {
	wall, used := time.Since(s.wall), cpu()-s.cpu
	say("ns_per_op", float64(wall.Nanoseconds())/float64(ops), "ns")
	say("cpu_ns_per_op", float64(used.Nanoseconds())/float64(ops), "ns")
	say("seconds", wall.Seconds(), "s")
}

func since(t time.Time) uint64 {
	if d := time.Since(t); d > 0 {
		return uint64(d)
	}
	return 0
}

func save(j job, ns []uint64) {
	if j.samples == "" {
		return
	}
	file, err := os.Create(j.samples)
	check(err == nil, "the file of samples cannot be written")
	out := bufio.NewWriter(file)
	check(binary.Write(out, binary.LittleEndian, ns) == nil && out.Flush() == nil && file.Close() == nil, "the samples cannot be written")
}

// Resident pages and the page tables that map them, in bytes.
func resident() float64 {
	text, err := os.ReadFile("/proc/self/status")
	check(err == nil, "no /proc/self/status")
	kib := 0.0
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "VmRSS:") || strings.HasPrefix(line, "VmPTE:") {
			n, _ := strconv.ParseFloat(strings.Fields(line)[1], 64)
			kib += n
		}
	}
	return kib * 1024
}

// A thread that can be joined, as go has none: what its users write.
func spawn(f func()) *sync.WaitGroup {
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		f()
		done.Done()
	}()
	return &done
}

func spawnAll(n int, f func(i int)) *sync.WaitGroup {
	var done sync.WaitGroup
	done.Add(n)
	for i := 0; i < n; i++ {
		i := i
		go func() {
			f(i)
			done.Done()
		}()
	}
	return &done
}

type semaphore chan struct{}

func newSemaphore() semaphore { return make(semaphore, 1) }
func (s semaphore) acquire()  { <-s }
func (s semaphore) release()  { s <- struct{}{} }

// Goroutines that only yield until the function it returns is called.
func yieldStorm(j job) func() {
	var over int32
	burst := time.Duration(j.burst) * time.Microsecond
	all := spawnAll(j.storm, func(int) {
		for atomic.LoadInt32(&over) == 0 {
			for until := time.Now().Add(burst); burst != 0 && time.Now().Before(until); {
			}
			runtime.Gosched()
		}
	})
	return func() {
		atomic.StoreInt32(&over, 1)
		all.Wait()
	}
}

func yield(j job) {
	each := j.ops / j.threads
	check(each > 0, "fewer operations than threads")
	var ready int32
	var yields int64
	all := spawnAll(j.threads, func(int) {
		for atomic.LoadInt32(&ready) == 0 {
			runtime.Gosched()
		}
		for n := 0; n < each; n++ {
			runtime.Gosched()
		}
		atomic.AddInt64(&yields, int64(each))
	})
	runtime.Gosched()
	time := begin()
	atomic.StoreInt32(&ready, 1)
	all.Wait()
	time.say(each * j.threads / j.workers)
	check(yields == int64(each*j.threads), "a thread did not end")
}

func handOver(j job) {
	each := j.ops / 2
	ping, pong := newSemaphore(), newSemaphore()
	turns := 0
	time := begin()
	other := spawn(func() {
		for i := 0; i < each; i++ {
			ping.acquire()
			turns++
			pong.release()
		}
	})
	for i := 0; i < each; i++ {
		ping.release()
		pong.acquire()
	}
	other.Wait()
	time.say(2 * each)
	check(turns == each, "lost count")
}

func condvar(j job) {
	each := j.ops / 2
	var mutex sync.Mutex
	condition := sync.NewCond(&mutex)
	done := 0
	play := func(mine int) {
		mutex.Lock()
		for i := 0; i < each; i++ {
			for done%2 != mine {
				condition.Wait()
			}
			done++
			condition.Signal()
		}
		mutex.Unlock()
	}
	time := begin()
	other := spawn(func() { play(0) })
	play(1)
	other.Wait()
	time.say(2 * each)
	check(done == 2*each, "lost count")
}

func channel(j job) {
	sum := 0
	ch := make(chan int, j.capacity)
	time := begin()
	receiver := spawn(func() {
		for v := range ch {
			sum += v
		}
	})
	sender := spawn(func() {
		for i := 0; i < j.ops; i++ {
			ch <- i
		}
		close(ch)
	})
	sender.Wait()
	receiver.Wait()
	time.say(j.ops)
	check(sum == j.ops*(j.ops-1)/2, "a value was lost")
}

func createJoin(j job) {
	lived := 0
	time := begin()
	for i := 0; i < j.ops; i++ {
		spawn(func() { lived++ }).Wait()
	}
	time.say(j.ops)
	check(lived == j.ops, "not every thread ran")
}

func createDetached(j job) {
	batches := j.ops / j.threads
	check(batches > 0, "fewer operations than threads")
	ran := make([]int32, j.threads)
	time := begin()
	for i := 0; i < batches; i++ {
		for n := range ran {
			flag := &ran[n]
			atomic.StoreInt32(flag, 0)
			go func() { atomic.StoreInt32(flag, 1) }()
		}
		for n := range ran {
			for atomic.LoadInt32(&ran[n]) == 0 {
				runtime.Gosched()
			}
		}
	}
	time.say(batches * j.threads)
}

func sumOfLeaves(first, leaves int) int {
	if leaves == 1 {
		return first
	}
	const children = 10
	share := leaves / children
	var sums [children]int
	all := spawnAll(children, func(i int) { sums[i] = sumOfLeaves(first+i*share, share) })
	all.Wait()
	sum := 0
	for _, s := range sums {
		sum += s
	}
	return sum
}

func skynet(j job) {
	right := true
	time := begin()
	for i := 0; i < j.ops; i++ {
		right = right && sumOfLeaves(0, j.threads) == j.threads*(j.threads-1)/2
	}
	time.say(j.ops * j.threads)
	check(right, "wrong sum")
}

var counted int // in memory, as the counters of work.h are

func mutexAlone(j job) {
	over := newSemaphore()
	company := spawn(over.acquire)
	var m sync.Mutex
	time := begin()
	for i := 0; i < j.ops; i++ {
		m.Lock()
		counted++
		m.Unlock()
	}
	time.say(j.ops)
	check(counted == j.ops, "lost count")
	over.release()
	company.Wait()
}

func mutex(j job) {
	var game struct {
		mutex sync.Mutex
		_     [56]byte
		count int
		_     [56]byte
		ready int32
	}
	each := j.ops / j.threads
	check(each > 0, "fewer operations than threads")
	all := spawnAll(j.threads, func(int) {
		for atomic.LoadInt32(&game.ready) == 0 {
			runtime.Gosched()
		}
		for n := 0; n < each; n++ {
			game.mutex.Lock()
			game.count++
			if j.hold != 0 && n%j.hold == 0 {
				runtime.Gosched()
			}
			game.mutex.Unlock()
		}
	})
	runtime.Gosched()
	time := begin()
	atomic.StoreInt32(&game.ready, 1)
	all.Wait()
	time.say(each * j.threads)
	check(game.count == each*j.threads, "lost count")
}

func memory(j job) {
	gate := newSemaphore()
	var begun int64
	before := resident()
	time := begin()
	all := spawnAll(j.threads, func(int) {
		atomic.AddInt64(&begun, 1)
		gate.acquire()
	})
	for atomic.LoadInt64(&begun) < int64(j.threads) {
		runtime.Gosched()
	}
	runtime.Gosched()
	say("bytes_per_thread", (resident()-before)/float64(j.threads), "B")
	say("create_ns", float64(since(time.wall))/float64(j.threads), "ns")
	for i := 0; i < j.threads; i++ {
		gate.release()
	}
	all.Wait()
	say("seconds", float64(since(time.wall))/1e9, "s")
}

func sleepers(j job) {
	const nap = time.Second
	late := make([]uint64, j.threads)
	watch := begin()
	all := spawnAll(j.threads, func(i int) {
		deadline := time.Now().Add(nap)
		time.Sleep(time.Until(deadline))
		d := time.Since(deadline)
		check(d >= 0, "a sleeper woke before its deadline")
		late[i] = uint64(d)
	})
	all.Wait()
	wall := time.Since(watch.wall)
	say("overshoot_ms", float64((wall-nap).Nanoseconds())/1e6, "ms")
	say("cpu_ms", float64((cpu()-watch.cpu).Nanoseconds())/1e6, "ms")
	say("seconds", wall.Seconds(), "s")
	save(j, late)
}

func handoverLatency(j job) {
	each := j.ops / 2
	gates := [2]semaphore{newSemaphore(), newSemaphore()}
	ns := [2][]uint64{make([]uint64, 0, each), make([]uint64, 0, each)}
	var opened time.Time
	over := yieldStorm(j)
	play := func(me int) {
		for i := 0; i < each; i++ {
			if me == 1 || i > 0 {
				gates[me].acquire()
				ns[me] = append(ns[me], since(opened))
			}
			opened = time.Now()
			gates[1-me].release()
		}
	}
	watch := begin()
	other := spawn(func() { play(1) })
	one := spawn(func() { play(0) })
	one.Wait()
	other.Wait()
	watch.say(2 * each)
	over()
	save(j, append(ns[0], ns[1]...))
}

func wakeLatency(j job) {
	const pause = 100 * time.Microsecond
	ns := make([]uint64, 0, j.ops)
	bell := newSemaphore()
	var opened time.Time
	var seen int64
	over := yieldStorm(j)
	watch := begin()
	sleeper := spawn(func() {
		for i := 0; i < j.ops; i++ {
			bell.acquire()
			ns = append(ns, since(opened))
			atomic.StoreInt64(&seen, int64(i+1))
		}
	})
	waker := spawn(func() {
		for i := 0; i < j.ops; i++ {
			time.Sleep(pause)
			for atomic.LoadInt64(&seen) < int64(i) {
				runtime.Gosched()
			}
			opened = time.Now()
			bell.release()
		}
	})
	waker.Wait()
	sleeper.Wait()
	watch.say(j.ops)
	over()
	save(j, ns)
}

func timerLatency(j job) {
	ns := make([]uint64, 0, j.ops)
	over := yieldStorm(j)
	watch := begin()
	sleeper := spawn(func() {
		for i := 0; i < j.ops; i++ {
			deadline := time.Now().Add(time.Millisecond)
			time.Sleep(time.Until(deadline))
			ns = append(ns, since(deadline))
		}
	})
	sleeper.Wait()
	watch.say(j.ops)
	over()
	save(j, ns)
}

type row struct {
	name, note, lacks string
	run               func(job)
}

var rows = []row{
	{name: "yield", run: yield},
	{name: "park", lacks: "has no park and unpark"},
	{name: "semaphore", run: handOver, note: "a channel of one place"},
	{name: "condvar", run: condvar},
	{name: "channel_rendezvous", run: channel},
	{name: "channel_buffered", run: channel},
	{name: "create_join", run: createJoin, note: "the join is a WaitGroup"},
	{name: "create_detached", run: createDetached},
	{name: "skynet", run: skynet, note: "the joins are a WaitGroup for each parent"},
	{name: "mutex_alone", run: mutexAlone},
	{name: "mutex", run: mutex},
	{name: "memory", run: memory, note: "stacks of 2 KiB that grow"},
	{name: "sleepers", run: sleepers},
	{name: "handover_latency", run: handoverLatency, note: "through a channel of one place"},
	{name: "wake_latency", run: wakeLatency, note: "through a channel of one place"},
	{name: "timer_latency", run: timerLatency},
}

func list() {
	fmt.Println("workers 256")
	for _, r := range rows {
		if r.run == nil {
			fmt.Println("lacks", r.name, r.lacks)
			continue
		}
		fmt.Println("row", r.name)
		if r.note != "" {
			fmt.Println("note", r.name, r.note)
		}
	}
}

func parse(words []string) job {
	j := job{workers: 1, ops: 1000, threads: 2}
	numbers := map[string]*int{"workers": &j.workers, "ops": &j.ops, "threads": &j.threads, "storm": &j.storm, "burst": &j.burst, "capacity": &j.capacity, "hold": &j.hold}
	for _, word := range words {
		key, value, found := strings.Cut(word, "=")
		check(found, "usage: list | run ROW key=value...")
		if key == "samples" {
			j.samples = value
		} else if number, known := numbers[key]; known {
			n, err := strconv.Atoi(value)
			check(err == nil, "not a number: "+word)
			*number = n
		}
	}
	return j
}

func main() {
	if len(os.Args) < 3 || os.Args[1] != "run" {
		list()
		return
	}
	j := parse(os.Args[3:])
	runtime.GOMAXPROCS(j.workers)
	for _, r := range rows {
		if r.name == os.Args[2] && r.run != nil {
			r.run(j)
			return
		}
	}
	fail("no such row")
}
