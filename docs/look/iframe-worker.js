/* Searching runs in a worker, and browsers start none on pages that are read from the disk. There, a hidden
   frame stands in for it: the script runs in the frame, and messages pass as they would to a worker. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.frame.srcdoc = "<!doctype html><body></body>"
      const here = String(new URL(address, location.href))
      this.room = new Promise((resolve, reject) => {
        this.frame.onload = () => {
          const room = this.frame.contentWindow
          room.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
          room.importScripts = (...urls) =>
            urls.reduce((before, url) => before.then(() => load(room, new URL(url, here))), Promise.resolve())
          load(room, here).then(() => resolve(room), reject)
        }
      })
      document.body.append(this.frame)
    }

    postMessage(data) {
      this.room.then(room => room.dispatchEvent(new room.MessageEvent("message", { data })))
    }

    terminate() {
      this.frame.remove()
    }
  }

  function load(room, address) {
    return new Promise((resolve, reject) => {
      const script = room.document.createElement("script")
      script.onload = resolve
      script.onerror = reject
      script.src = address
      room.document.body.append(script)
    })
  }
}
