// SPDX-License-Identifier: BSD-2-Clause
//
// An echo server on Go's net package, a goroutine for each connection.  GOMAXPROCS=1 makes it the peer of one vCPU.
package main

import (
	"fmt"
	"net"
	"os"
)

func echo(c net.Conn) {
	defer c.Close()
	buffer := make([]byte, 1024)
	for {
		n, err := c.Read(buffer)
		if err != nil {
			return
		}
		if _, err = c.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("listening on", l.Addr())
	for {
		if c, err := l.Accept(); err == nil {
			go echo(c)
		}
	}
}
